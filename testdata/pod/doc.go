// Package pod is the pod double: container images that stand in for Prose's own
// in tests, under upstream's names. The server image runs the real Prosody; the
// programs around it keep upstream's HTTP contract, its order of starting and
// the ways in which it fails.
//
//	server     process 1 of the server image: bootstrap configuration, Prosody, Server API
//	api        strict configuration, ten seconds of patience, full configuration, Pod API
//	dashboard  static files, and a proxy whose upstream's name is resolved once
//	app        static files
//	image      makes the images; cmd/pod-registry hands them out
//
// What upstream does badly is done here too, on purpose: that is what the
// appliance has to cope with. The tests here run the programs out of the images,
// each in namespaces of its own on one bridge, with the directories and users of
// upstream's compose file.
package pod
