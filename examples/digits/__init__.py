"""The parts of the main job: data, network, hyper-parameter search, parameter-server training, picture."""
