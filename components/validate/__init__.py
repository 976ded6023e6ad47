"""The second step of a retraining: are these rows what the policy says?"""
