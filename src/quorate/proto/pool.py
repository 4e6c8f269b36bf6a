"""The descriptor pool that holds our message types, apart from protobuf's default pool."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
