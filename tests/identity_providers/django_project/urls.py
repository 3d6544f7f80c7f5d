"""The addresses of the project: the provider under /o/, and nothing else."""

from django.urls import include, path  # type: ignore[import-not-found]

urlpatterns = [path("o/", include("oauth2_provider.urls"))]
