"""Users' servers: the profiles, who may choose which, and how one becomes a process or a pod."""
