"""The course as a site: chapters with folded solutions, the pages of docs/, and the library's reference."""
