"""How the design scales: measured costs, real clusters of a few nodes, and the same code in virtual time.

What is predicted for 3 and 10 nodes is compared with what real clusters of that size do on this machine;
then the same is predicted for as many nodes as nobody here has.
"""
