package status

// Unconfigured is the status of a machine that nobody told its domain. The
// image has its page, for the time before the agent has written one.
func Unconfigured() Status {
	return Status{
		Schema: Schema,
		State:  Waiting,
		Items: []Item{{
			Key:      KeySettings,
			Title:    "Settings",
			Progress: Owner,
			What:     "Nobody has said yet for which domain this machine shall chat.",
			Why:      "The domain is the part after the @ in everybody's address. Nothing can start without it, and it cannot change later.",
			Do:       "Log in over SSH and answer a few questions:",
			Type:     []string{"sudo prose-firstboot configure"},
		}},
	}
}

// userData is the other way to say it. The name of the file is free.
const userData = `#cloud-config
write_files:
  - path: /etc/prose-firstboot.d/10-settings.yaml
    owner: root:root
    permissions: "0600"
    content: |
      domain: example.org`
