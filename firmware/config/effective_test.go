package config

import "testing"

func TestSecret(t *testing.T) {
	for name, want := range map[string]bool{
		"password": true, "connection_string": true, "sas_token": true, "token": true, "key": true, "shared_access_key": true,
		"password_file": false, "connection_string_file": false, "token_lifetime": false, "keep_alive": false, "monkey": false,
	} {
		if got := secret([]string{"hub", name}); got != want {
			t.Errorf("%s: secret is %v, want %v", name, got, want)
		}
	}
}
