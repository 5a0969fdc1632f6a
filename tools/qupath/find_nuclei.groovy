// Finds nuclei in the selected annotations, or without any in the whole open image, as detections.
// QuPath 0.5 or newer: Automate > Script editor, open this file, Run.   More: docs/OUTPUTS.md of unet_sharp_det.

import qupath.fx.dialogs.Dialogs
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObjects
import qupath.lib.regions.ImagePlane
import qupath.lib.regions.RegionRequest
import static qupath.lib.gui.scripting.QPEx.*

// The command; with its folder where QuPath does not find it: "/home/me/unet_sharp_det/.venv/bin/unet-sharp-det"
def command = "unet-sharp-det"
// Options of `unet-sharp-det predict`, word by word: ["--weights", "nuclei-fast", "--channels", "0"]
def options = ["--weights", "nuclei", "--scale", "auto"]

def server = getCurrentServer()
def annotations = getSelectedObjects().findAll { it.isAnnotation() && it.hasROI() }
def request(server, x0, y0, x1, y1, z, t) {
    int left = Math.max(0, x0), top = Math.max(0, y0)
    int right = Math.min(server.getWidth(), x1), bottom = Math.min(server.getHeight(), y1)
    return RegionRequest.createInstance(server.getPath(), 1.0d, left, top, right - left, bottom - top, z, t)
}

def requests = annotations.collect {
    // With a margin, so that nuclei on the annotation's border are seen whole.
    def roi = it.getROI()
    def margin = 64
    request(server, roi.getBoundsX() - margin, roi.getBoundsY() - margin,
        roi.getBoundsX() + roi.getBoundsWidth() + margin, roi.getBoundsY() + roi.getBoundsHeight() + margin,
        roi.getZ(), roi.getT())
}
if (annotations.isEmpty()) {
    for (int t = 0; t < server.nTimepoints(); t++)
        for (int z = 0; z < server.nZSlices(); z++)
            requests << request(server, 0, 0, server.getWidth(), server.getHeight(), z, t)
}

// QuPath writes the regions, so that any format that it opens will do, and of a slide only what is needed.
def folder = File.createTempDir("unet_sharp_det_", "")
def images = new File(folder, "regions")
def results = new File(folder, "results")
images.mkdirs()
requests.eachWithIndex { each, i -> writeImageRegion(server, each, new File(images, "${i}.ome.tif").path) }

def words = [command, "predict", images.path, "--output", results.path, "--outputs", "geojson"] + options
def said = new StringBuilder()
def status = -1
try {
    def process = new ProcessBuilder(words.collect { it.toString() }).redirectErrorStream(true).start()
    process.inputStream.eachLine { line -> println line; said << line << "\n" }
    status = process.waitFor()
} catch (IOException error) {
    said << error.message << "\nSet `command` at the top of this script to where unet-sharp-det is."
}
if (status != 0) {
    def text = said.toString()
    Dialogs.showErrorMessage("unet-sharp-det", text.substring(Math.max(0, text.length() - 2000)))
    return
}

requests.eachWithIndex { each, i ->
    def plane = ImagePlane.getPlane(each.getZ(), each.getT())
    def region = annotations.isEmpty() ? null : annotations[i].getROI()
    def found = []
    PathIO.readObjects(new File(results, "${i}.ome_outlines.geojson")).each { object ->
        def roi = object.getROI().translate(each.getX(), each.getY()).updatePlane(plane)
        if (region == null || region.contains(roi.getCentroidX(), roi.getCentroidY())) {
            def detection = PathObjects.createDetectionObject(roi, object.getPathClass(), object.getMeasurementList())
            detection.setName(object.getName())
            found << detection
        }
    }
    if (region == null)
        addObjects(found)
    else
        annotations[i].addChildObjects(found)
}
fireHierarchyUpdate()
folder.deleteDir()
