"""One run on several machines: started on all, asked, followed, stopped and recovered as one."""
