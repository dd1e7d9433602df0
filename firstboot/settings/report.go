package settings

import (
	"fmt"
	"strings"
)

// A Place is where a setting was said.
type Place struct {
	Source Sources // one bit
	Path   string  // of the file on the machine
	Line   int     // counts from 1; 0 when the owner did not write the file
}

func (p Place) String() string {
	switch {
	case p.Source == CloudConfig:
		return "prose: in cloud-config"
	case p.Source == Metadata:
		return "prose-domain in the platform's metadata"
	case p.Source == CommandLine:
		return "prose.domain on the kernel's command line"
	case p.Line > 0:
		return fmt.Sprintf("%s:%d", p.Path, p.Line)
	}
	return p.Path
}

// A Problem is one thing that is wrong with what was said. It holds no secret.
type Problem struct {
	At      Place
	Key     string // dotted; empty: the whole of the place
	Message string // what is wrong, to follow the key
	Hint    string // what to do; may be empty
}

func (p Problem) String() string {
	if p.Key == "" {
		return fmt.Sprintf("%v: %s", p.At, p.Message)
	}
	return fmt.Sprintf("%v: %s %s", p.At, p.Key, p.Message)
}

// A Conflict is a key that two places set to different values.
type Conflict struct {
	Key           string
	Used, Ignored Place
}

func (c Conflict) String() string {
	return fmt.Sprintf("%s: %v counts, %v says something else", c.Key, c.Used, c.Ignored)
}

// A Report is what came of reading the settings.
type Report struct {
	From      map[string]Place // where each key that is set was set
	Conflicts []Conflict
	Problems  []Problem
	Tightened []string // paths that others could read, and no longer can
}

// Draw shows every problem, each with what to do about it, for people.
func (r *Report) Draw() string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "error: %v\n", p)
		if p.Hint != "" {
			fmt.Fprintf(&b, "hint: %s\n", p.Hint)
		}
	}
	return b.String()
}
