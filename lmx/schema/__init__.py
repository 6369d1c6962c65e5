"""What a config may hold: choices, keys, types, ranges and rules, found without importing what is configured."""
