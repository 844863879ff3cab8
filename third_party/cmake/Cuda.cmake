# CUDA's compiler and libraries: included by the top CMakeLists.txt (enable_language must run there)
# when LONGSPAN_CUDA is on. Gives longspan_cuda to link with.
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE} CACHE FILEPATH "nvcc")
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(architectures 80 90)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND architectures 100)
  endif()
  set(CMAKE_CUDA_ARCHITECTURES ${architectures} CACHE STRING "GPUs that kernels are made for")
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
# CMake 3.25 does not know nvcc's flag yet.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")

# What is missing is told at once, with what would bring it.
function(longspan_cuda_part variable header library package)
  find_path(${variable}_INCLUDE_DIR ${header} HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(${variable}_LIBRARY ${library} HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT ${variable}_INCLUDE_DIR OR NOT ${variable}_LIBRARY)
    message(FATAL_ERROR "LONGSPAN_CUDA is on, but ${header} or lib${library}.so was not found: "
                        "install NVIDIA's ${package}, or name its place in ${variable}_INCLUDE_DIR "
                        "and ${variable}_LIBRARY")
  endif()
  target_include_directories(longspan_cuda SYSTEM INTERFACE ${${variable}_INCLUDE_DIR})
  target_link_libraries(longspan_cuda INTERFACE ${${variable}_LIBRARY})
endfunction()

# cudnn-frontend opens the runtime's shared library by name: with a static one there would be two
# runtimes in the process, each with a device of its own.
add_library(longspan_cuda INTERFACE)
target_link_libraries(longspan_cuda INTERFACE CUDA::cudart CUDA::cublasLt)
target_include_directories(longspan_cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
longspan_cuda_part(CUDNN cudnn_version.h cudnn "libcudnn9-dev")
longspan_cuda_part(NCCL nccl.h nccl "libnccl-dev")

# cudnn-frontend is headers only, which one source of ours includes. It looks up the functions of
# cuDNN and of the driver when they are called, so the program starts on machines without a driver.
file(STRINGS ${PROJECT_SOURCE_DIR}/third_party/cudnn-frontend.txt longspan_cudnn_frontend
     REGEX "^nvidia-cudnn-frontend==")
string(REGEX REPLACE "^[^=]*==([0-9.]+).*" "\\1" longspan_cudnn_frontend
                     "${longspan_cudnn_frontend}")
set(longspan_cudnn_frontend_folder
    ${PROJECT_SOURCE_DIR}/build/deps/cudnn-frontend-${longspan_cudnn_frontend}/include)
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${longspan_cudnn_frontend_folder})
if(NOT CUDNN_FRONTEND_INCLUDE_DIR)
  message(FATAL_ERROR "LONGSPAN_CUDA is on, but cudnn_frontend.h was not found in "
                      "${longspan_cudnn_frontend_folder}: run scripts/setup, which brings it, or "
                      "name its place in CUDNN_FRONTEND_INCLUDE_DIR")
endif()
target_include_directories(longspan_cuda SYSTEM INTERFACE ${CUDNN_FRONTEND_INCLUDE_DIR})
target_link_libraries(longspan_cuda INTERFACE ${CMAKE_DL_LIBS})
