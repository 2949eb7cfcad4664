"""CloudEvents 1.0 over HTTP, for whoever can make a POST: one in a request (binary or structured mode), or
many (batch mode). Answers and the OPTIONS handshake are those of the specification's "HTTP 1.1 Web Hooks for
Event Delivery".

``reading`` makes events of requests, ``handshake`` says who may send, ``source`` is the port.
"""
