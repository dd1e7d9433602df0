package evidence

import (
	"fmt"
	"strings"
)

// An Installed package is one that dpkg knows as installed.
type Installed struct {
	Name, Version, Arch string
	Source              string // name of the source package, with a version of its own in parentheses
}

// ParseStatus reads dpkg's list of packages, /var/lib/dpkg/status: stanzas of
// deb822(5), in the order of the file.
func ParseStatus(b []byte) ([]Installed, error) {
	var list []Installed
	var p Installed
	status, first := "", 0
	end := func() error {
		defer func() { p, status, first = Installed{}, "", 0 }()
		if first == 0 || !strings.HasSuffix(status, " installed") {
			return nil
		}
		if p.Name == "" || p.Version == "" || p.Arch == "" {
			return fmt.Errorf("dpkg's status: line %d: a package without name, version or architecture", first)
		}
		if p.Source == "" {
			p.Source = p.Name
		}
		list = append(list, p)
		return nil
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		if first == 0 {
			first = n
		}
		if line[0] == ' ' || line[0] == '\t' {
			continue // more of the field before
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("dpkg's status: line %d: no field", n)
		}
		value = strings.TrimSpace(value)
		switch name {
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Architecture":
			p.Arch = value
		case "Source":
			p.Source = value
		case "Status":
			status = value
		}
	}
	return list, end()
}
