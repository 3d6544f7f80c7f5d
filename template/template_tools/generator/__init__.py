"""Write a resource: its table, bodies, service, routes and tests, as those of the user resource.

``slice/`` has the code that is written, with a placeholder wherever two resources differ.
"""

from template_tools.messages import Problem


class ResourceError(Problem):
    """A sentence for the developer: what cannot be written, and what to do about it."""
