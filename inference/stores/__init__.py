"""Where teams keep raw inputs: one module for each kind of store, found by scanning."""
