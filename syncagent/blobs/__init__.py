"""What a namespace does with its blobs, a file a subject. `Namespace` is the face that leads here."""
