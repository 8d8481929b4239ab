"""Results for people and for CI: a page, JUnit, tables on a terminal."""
