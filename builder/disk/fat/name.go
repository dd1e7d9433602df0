package fat

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// shortPunctuation is what an 8.3 name may hold besides capitals and digits.
const shortPunctuation = "$%'-_@~`!(){}^#&"

func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no name for a file", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8", name)
	case len(utf16s(name)) > 255:
		return fmt.Errorf("name %q is longer than 255 UTF-16 units", name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, " "):
		return fmt.Errorf("name %q begins or ends with what FAT drops", name)
	}
	for _, c := range name {
		if c < 0x20 || c == 0x7F || strings.ContainsRune(`"*/:<>?\|`, c) {
			return fmt.Errorf("name %q holds %q, which FAT does not allow", name, c)
		}
	}
	return nil
}

func checkLabel(s string) error {
	if len(s) > 11 {
		return fmt.Errorf("label %q is longer than 11 characters", s)
	}
	for i := range len(s) {
		if c := s[i]; !shortByte(c) && (c != ' ' || i == 0) {
			return fmt.Errorf("label %q holds %q; capitals, digits and %s are allowed", s, c, shortPunctuation)
		}
	}
	return nil
}

// label is a volume label as boot sector and root directory hold it.
func label(s string) string {
	if s == "" {
		s = "NO NAME"
	}
	return fmt.Sprintf("%-11s", s)
}

// fold maps names that FAT takes for the same to one.
func fold(name string) string { return strings.ToUpper(name) }

func shortByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(shortPunctuation, c) >= 0
}

// alias gives each of the children of one directory its 8.3 name and, unless
// that is the very name, its long name. Names that are 8.3 but for their case
// come first, so that no numbered alias takes one of them away.
func alias(children []*node) error {
	taken := make(map[[11]byte]bool, len(children))
	var rest []*node
	for _, c := range children {
		short, lossy := basis(c.name)
		if plain(short) != c.name {
			c.long = utf16s(c.name)
		}
		if lossy {
			rest = append(rest, c)
			continue
		}
		c.short = short
		taken[short] = true
	}
	for _, c := range rest {
		short, _ := basis(c.name)
		var err error
		if c.short, err = numbered(short, taken); err != nil {
			return fmt.Errorf("%s: %w", c.path(), err)
		}
		taken[c.short] = true
	}
	return nil
}

// basis is the 8.3 name closest to name. It is lossy when more than the case
// of letters was changed.
func basis(name string) (short [11]byte, lossy bool) {
	copy(short[:], "           ")
	base, ext := strings.TrimLeft(name, "."), ""
	lossy = base != name
	if dot := strings.LastIndexByte(base, '.'); dot >= 0 {
		base, ext = base[:dot], base[dot+1:]
	}
	fill := func(to []byte, from string) {
		n := 0
		for _, c := range from {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			switch {
			case c == ' ' || c == '.':
				lossy = true
				continue
			case c >= utf8.RuneSelf || !shortByte(byte(c)):
				lossy = true
				c = '_'
			}
			if n == len(to) {
				lossy = true
				return
			}
			to[n] = byte(c)
			n++
		}
	}
	fill(short[:8], base)
	fill(short[8:], ext)
	if short[0] == ' ' {
		lossy = true
		short[0] = '_'
	}
	return short, lossy
}

// plain is the name that an 8.3 name stands for without a long one.
func plain(short [11]byte) string {
	base, ext := strings.TrimRight(string(short[:8]), " "), strings.TrimRight(string(short[8:]), " ")
	if ext != "" {
		return base + "." + ext
	}
	return base
}

// numbered ends the base of short with ~1, ~2 and so on until it is free.
func numbered(short [11]byte, taken map[[11]byte]bool) ([11]byte, error) {
	base := strings.TrimRight(string(short[:8]), " ")
	for n := 1; n <= 999999; n++ {
		tail := fmt.Sprintf("~%d", n)
		s := fmt.Sprintf("%-8s", base[:min(len(base), 8-len(tail))]+tail)
		copy(short[:8], s)
		if !taken[short] {
			return short, nil
		}
	}
	return short, errors.New("no 8.3 name is left for it")
}
