package builder

// A Platform is a place where images boot.
type Platform struct {
	Name        string
	Datasources []string // cloud-init's names, in the order they are asked
	Kernel      []string // arguments beyond those of every platform
}

// Platforms lists them all; recipe.Platforms has their names. Each asks its own
// metadata alone, where a list for all would wait for those of others. None ends
// the lists, so that a machine without user-data boots.
var Platforms = []Platform{
	// ConfigDrive before NoCloud: a provider that attaches both means the former.
	{Name: "generic", Datasources: []string{"ConfigDrive", "NoCloud", "OpenStack", "None"}},
	{Name: "akamai", Datasources: []string{"Akamai", "None"}},
	// Disks of EBS may be away for longer than the driver waits.
	{Name: "aws", Datasources: []string{"Ec2", "None"}, Kernel: []string{"nvme_core.io_timeout=4294967295"}},
	// As Azure's certification looks for them.
	{Name: "azure", Datasources: []string{"Azure", "None"}, Kernel: []string{"rootdelay=300", "earlyprintk=ttyS0", "net.ifnames=0"}},
	// A droplet of an uploaded image has its data on a config drive.
	{Name: "digitalocean", Datasources: []string{"DigitalOcean", "ConfigDrive", "None"}},
	{Name: "exoscale", Datasources: []string{"Exoscale", "None"}},
	{Name: "gce", Datasources: []string{"GCE", "None"}},
	{Name: "hetzner", Datasources: []string{"Hetzner", "None"}},
	{Name: "openstack", Datasources: []string{"ConfigDrive", "OpenStack", "None"}},
	{Name: "oracle", Datasources: []string{"Oracle", "None"}},
	{Name: "proxmox", Datasources: []string{"NoCloud", "ConfigDrive", "None"}},
	{Name: "scaleway", Datasources: []string{"Scaleway", "None"}},
	{Name: "upcloud", Datasources: []string{"UpCloud", "None"}},
	{Name: "vmware", Datasources: []string{"VMware", "OVF", "None"}},
	// Its marketplace looks for the argument.
	{Name: "vultr", Datasources: []string{"Vultr", "None"}, Kernel: []string{"vultr"}},
}
