"""The HTML report of `polyvec analyze`: tables, figures and maps of all panels in one file."""
