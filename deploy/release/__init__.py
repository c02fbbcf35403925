"""Makes a release: ``make release VERSION=X.Y.Z``. RELEASE.md says what comes before and after."""
