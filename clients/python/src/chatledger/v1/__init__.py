"""The generated stubs of the contract ``chatledger.v1``, for who wants them raw. Made by ``scripts/generate.sh``."""
