package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Command is one word that a step may begin with.
type Command struct {
	Name  string
	Args  string // for people
	Doc   string // a sentence
	least int    // arguments
	most  int    // -1: no limit
	valid func(args []string) error
	do    func(ctx context.Context, r *run, args []string) error
}

// Commands lists them, in the order of the files that hold them.
var Commands = slices.Concat(guestCommands, dnsCommands, websiteCommands, authorityCommands, webCommands, xmppCommands,
	servedCommands, momentCommands, doorCommands, podCommands, wallCommands, powerCommands)

// Usage is the command with its arguments.
func (c *Command) Usage() string { return strings.TrimSpace(c.Name + " " + c.Args) }

func (c *Command) check(args []string) error {
	if len(args) < c.least || c.most >= 0 && len(args) > c.most {
		what := c.Args
		if what == "" {
			what = "nothing"
		}
		return fmt.Errorf("%s takes %s, not %d arguments", c.Name, what, len(args))
	}
	if c.valid != nil {
		return c.valid(args)
	}
	return nil
}
