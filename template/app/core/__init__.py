"""The template's: settings, errors, and what surrounds every request. Updates mend it."""
