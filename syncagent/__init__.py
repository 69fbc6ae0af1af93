"""Offline-first, end-to-end encrypted sync of blobs over storage that need not be trusted."""
