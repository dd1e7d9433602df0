package settings

// An entry is one key that a place set.
type entry struct {
	key   *Key
	value node
	at    Place
}

// Load reads every source below root, "/" on a machine, as root. It takes away
// from everyone else what they could read of the settings' files. What is
// wrong is in the report; the settings have what is right.
func Load(root string) (Settings, Report) {
	var c collector
	c.files(root, nil)
	c.instance(root)
	return c.merge()
}

// A collector gathers entries in the order in which they count.
type collector struct {
	entries []entry
	report  Report
}

func (c *collector) problem(at Place, key, message, hint string) {
	c.report.Problems = append(c.report.Problems, Problem{at, key, message, hint})
}
