// Package provision applies what a user put on the card's FAT partition before
// the device first started: configuration, ssh keys, wireless network, name and
// the hub's connection string, and what Raspberry Pi Imager writes there.
//
// The rules it keeps, whatever the files are like and whenever the power goes:
// a mistake in one file leaves what was there before and stops neither the rest
// nor the boot; a file is in place whole or not at all; a secret leaves the card
// only once its new place is on stable storage; a file that has been applied is
// not applied again until it changes, so what is changed on the device stays;
// and nothing is written outside of the two folders that it is given.
//
// It changes files only. It starts no service and configures no interface: it
// runs before those that read the files. Start with Run.
package provision
