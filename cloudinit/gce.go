package cloudinit

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Google Compute Engine. The header keeps others from being led here ("About VM
// metadata", Google).
var gce = Service{"GCE", func(d DMI) bool {
	return d.Product == "Google Compute Engine" || strings.HasPrefix(d.Serial, "GoogleCloud-")
}, func(w *Web) (f Found, err error) {
	w.header.Set("Metadata-Flavor", "Google")
	const instance = "/computeMetadata/v1/instance"
	if f.ID, err = w.text(instance + "/id"); err != nil {
		return f, err
	}
	if f.UserData, err = w.get(instance + "/attributes/user-data"); err != nil {
		return f, err
	}
	encoding, err := w.text(instance + "/attributes/user-data-encoding")
	if err != nil {
		return f, err
	}
	if encoding == "base64" {
		if f.UserData, err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(f.UserData))); err != nil {
			return f, fmt.Errorf("reading user-data: it is no base64, though the metadata says so")
		}
	}
	if f.Domain, err = w.text(instance + "/attributes/prose-domain"); err != nil {
		return f, err
	}
	public, err := w.text(instance + "/network-interfaces/0/access-configs/0/external-ip")
	f.Public = addresses(public)
	return f, err
}}
