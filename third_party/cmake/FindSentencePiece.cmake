# Debian's libsentencepiece-dev has no CMake package: defines SentencePiece::SentencePiece.
find_path(SentencePiece_INCLUDE_DIR sentencepiece_processor.h)
find_library(SentencePiece_LIBRARY sentencepiece)
find_library(SentencePiece_train_LIBRARY sentencepiece_train)
# The headers carry no version; Debian's pkg-config file does.
find_package(PkgConfig QUIET)
pkg_check_modules(PC_SentencePiece QUIET sentencepiece)
set(SentencePiece_VERSION ${PC_SentencePiece_VERSION})
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(SentencePiece REQUIRED_VARS SentencePiece_LIBRARY
                                  SentencePiece_train_LIBRARY SentencePiece_INCLUDE_DIR)
if(SentencePiece_FOUND AND NOT TARGET SentencePiece::SentencePiece)
  add_library(SentencePiece::SentencePiece UNKNOWN IMPORTED)
  set_target_properties(SentencePiece::SentencePiece PROPERTIES
                        IMPORTED_LOCATION "${SentencePiece_train_LIBRARY}"
                        INTERFACE_LINK_LIBRARIES "${SentencePiece_LIBRARY}"
                        INTERFACE_INCLUDE_DIRECTORIES "${SentencePiece_INCLUDE_DIR}")
endif()
