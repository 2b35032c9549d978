# SPDX-License-Identifier: Apache-2.0
# Debian packages, by `cpack` in the build folder: sextant (programs and libsextant.so.1) and
# libsextant-dev (headers and what finds them).
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_VENDOR "The Sextant authors")
set(CPACK_PACKAGE_CONTACT "The Sextant authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Trains, quantizes and runs YOLOv6 detectors, in float and int8")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME sextant)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_RECOMMENDS "ffmpeg, libtiff6")  # opened while running
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libsextant-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "sextant (= ${PROJECT_VERSION})")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
include(CPack)
