"""Networks that learn by gradient descent: fast weight memories, the models beside them, training.

Naming it loads no torch: each module does when it is used.
"""
