"""The IOS lines of package nhrp: rows of the one grammar table."""
