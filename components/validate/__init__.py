"""The second step: are these rows what the policy says?"""
