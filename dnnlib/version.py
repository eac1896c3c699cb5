"""The version of this project. The commands, the citation file and the changelog repeat it."""

VERSION = "0.2.0"
