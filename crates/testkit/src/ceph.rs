//! An S3 store whose Object Lock really holds: a one-node Ceph cluster in memory with its gateway.
