"""What `dispatch demo` and the tests need of the outside world: a small Plane that runs on this machine.

It behaves as the real one was recorded to behave. It is a third party and no part of the product; knows no service.
"""
