"""ION over HTTP: a client of the four IMS calls, its transport, authentication, and the bytes on the wire."""
