"""The methods: one file each, its name is the method's name. Files with an underscore are machinery."""
