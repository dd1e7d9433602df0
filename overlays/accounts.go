package overlays

// An Account is a user of the image that no package brings, with a group of the
// same name and number. None has a password, a home or a shell, and none is in
// any other group: the group docker would make it root.
type Account struct {
	Name  string
	ID    uint32 // uid and gid
	Gecos string
}

// Accounts are the users that the image gets.
func Accounts() []Account {
	return []Account{
		// The containers' user: upstream's images have it built in.
		{"prose", prose.uid, "Prose"},
		// The door's, with nothing to lose. Below 1000, and far from both
		// ends of the range from which packages draw.
		{"prose-door", 961, "Prose door"},
	}
}
