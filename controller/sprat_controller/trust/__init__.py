"""The two TUF repositories as the controller keeps them, and the ceremonies that change them."""
