"""The template's: settings, errors, middleware, base schemas. Updates bring fixes."""
