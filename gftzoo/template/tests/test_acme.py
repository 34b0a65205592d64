from gftzoo.testing import conformance

test_acme = conformance("acme")
