"""What runs the project on this machine: servers, worker, services, and what they lack."""
