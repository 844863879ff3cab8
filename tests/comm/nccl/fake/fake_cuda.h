#pragma once

namespace longspan::testing {

/// Where this process's device sits: two ranks with one number share a GPU.
void set_bus_number(int number);

}  // namespace longspan::testing
