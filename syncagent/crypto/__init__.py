"""Sealing and opening: what leaves a device is made here, what comes back is checked here.

Which call do I want?

    a new vault                  keys.new_root, recovery.new_recovery_code, keyslot.seal_slot
    a passphrase, to open one    keyslot.passphrase_bytes, keyslot.parse_slot, keyslot.open_any
    a recovery code, likewise    recovery.recovery_bytes, then the same
    a batch, record or snapshot  sealed.seal_object, sealed.open_object
    content into chunks          chunk.digest_of, VaultKeys.chunk_id, chunk.content_digest
    chunks into a pack           pack.PackSealer (piece by piece), pack.seal_pack (at once)
    chunks out of a pack         pack.PackOpener, then chunk.verify_chunk

Pure computation: nothing here reads a file, a clock or the network. The bytes
are specified in `docs/format.md`.
"""
