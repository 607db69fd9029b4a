"""Why a device stands where it stands: one reason for each alias, out of a closed list."""
