package cloudinit

import "strings"

// Exoscale: Amazon's first paths, with a version of their own.
var exoscale = Service{"Exoscale", func(d DMI) bool { return strings.HasPrefix(d.Product, "Exoscale") }, func(w *Web) (Found, error) {
	return amazonLike(w, "/1.0")
}}
