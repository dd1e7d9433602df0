package publish

import (
	"fmt"
	"strings"
)

// A Kind is one kind of target.
type Kind struct {
	Name    string
	Address string // its form, for help
	Doc     string // one line for help
	Match   func(address string) bool
	// Open gives the target and the one way to write its address. It does not
	// reach out to it.
	Open func(address string) (Target, string, error)
}

// Kinds are the kinds of targets. The first that matches an address has it.
var Kinds = []Kind{directoryKind, rsyncKind}

// A BadAddressError is an address that no kind of target has.
type BadAddressError struct {
	Address string
	Why     string
}

func (e *BadAddressError) Error() string {
	return fmt.Sprintf("%q is no target: %s", e.Address, e.Why)
}

// Hint lists the forms.
func (e *BadAddressError) Hint() string {
	var forms []string
	for _, k := range Kinds {
		forms = append(forms, k.Address)
	}
	return "a target is " + strings.Join(forms, "; or ")
}

// Open finds the target at an address, and the one way to write it.
func Open(address string) (Target, string, error) {
	for _, k := range Kinds {
		if k.Match(address) {
			return k.Open(address)
		}
	}
	return nil, "", &BadAddressError{address, "no kind of target has such addresses"}
}

// Docs is the list of targets and stages in docs, in Markdown.
func Docs() string {
	var b strings.Builder
	b.WriteString("| target | address | what it is |\n|---|---|---|\n")
	for _, k := range Kinds {
		fmt.Fprintf(&b, "| %s | `%s` | %s |\n", k.Name, k.Address, k.Doc)
	}
	b.WriteString("\n| stage | what happens |\n|---|---|\n")
	for _, s := range Stages {
		fmt.Fprintf(&b, "| %s | %s |\n", s.Stage, s.Doc)
	}
	return b.String()
}
