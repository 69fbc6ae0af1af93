"""The local cache: one SQLCipher file, and pack files beside it."""
