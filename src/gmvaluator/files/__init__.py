"""Result folders written whole or not at all, their hashes, and the cache of vectors and indexes.

`atomic`: writes files and folders. `seals`: hashes, and a seal over them. `store`: the cache.
`prune`: its size. `mapped`: arrays of a file, read as they are used. `records`: records as JSON.
`pieces`: the working folder of a study.
"""
