"""What the agent asks a cloud for over HTTP, with nothing but the standard library.

`http` is the one connection that everything here speaks over; `metadata` asks the machine's own metadata service,
`credentials` gets the keys of its role there, `signing` signs with them, `s3` makes the requests, `uploads` puts files,
and `checksums` says what proves that a file is the object. No SDK: the machine need not have pip, and boto3 takes
longer to import than most of this takes to run.
"""
