// A browser does not let a page read others from a folder: there, the search shows titles alone.
if (window.location.protocol === "file:" && window.DOCUMENTATION_OPTIONS) {
  window.DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
