package scenario

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// authorityCommands look at the ACME authority.
var authorityCommands = []Command{
	{Name: "orders", Args: "N", least: 1, most: 1, valid: validCount, do: doOrders,
		Doc: "The authority has seen exactly so many orders."},
	{Name: "orders-of", Args: "NAME N", least: 2, most: 2, valid: func(args []string) error { return validCount(args[1:]) }, do: doOrdersOf,
		Doc: "The authority has seen exactly so many orders with this name."},
	{Name: "authority", Args: "up|down", least: 1, most: 1,
		valid: func(args []string) error { return oneOf(args[0], []string{"up", "down"}) },
		do: func(_ context.Context, r *run, args []string) error {
			r.world.authority.setDown(args[0] == "down")
			return nil
		},
		Doc: "The authority answers everything with 503, or works again."},
}

func validCount(args []string) error {
	if n, err := strconv.Atoi(args[0]); err != nil || n < 0 {
		return fmt.Errorf("%q is no number", args[0])
	}
	return nil
}

func doOrders(_ context.Context, r *run, args []string) error {
	return wantOrders(r.world.authority.seen(), args[0])
}

func doOrdersOf(_ context.Context, r *run, args []string) error {
	all := slices.DeleteFunc(r.world.authority.seen(), func(o order) bool { return !slices.Contains(o.Names, args[0]) })
	return wantOrders(all, args[1])
}

func wantOrders(seen []order, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	if len(seen) != n {
		var names []string
		for _, o := range seen {
			names = append(names, strings.Join(o.Names, "+"))
		}
		return fmt.Errorf("it has seen %d orders: %s", len(seen), strings.Join(names, ", "))
	}
	return nil
}
