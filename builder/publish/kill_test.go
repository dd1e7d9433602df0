package publish_test

func child() {}
